"""The look of the page, light and dark: quiet grays, dark ink for buttons, and the visitor's own fonts."""

import gradio as gr

LINKS = (("", "#0b62a4"), ("_dark", "#7cbcf2"))
# Gradio's own colors are too pale to read (tests/app/test_contrast.py)
TEXT = {
    "body_text_color_subdued": "*neutral_500",
    "input_placeholder_color": "*neutral_500",
    "input_placeholder_color_dark": "*neutral_400",
    "block_info_text_color": "*neutral_500",
    "block_info_text_color_dark": "*neutral_400",
    "block_title_text_color": "*neutral_700",
    "block_title_text_color_dark": "*neutral_300",
    **{f"link_text_color{each}{scheme}": color for each in ("", "_hover", "_visited") for scheme, color in LINKS},
}


def theme() -> gr.themes.Base:
    """Quiet grays, dark ink for buttons, the visitor's own fonts."""
    sans = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif")
    mono = ("ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "Consolas", "monospace")
    base = gr.themes.Base(
        primary_hue="slate", secondary_hue="slate", neutral_hue="slate", radius_size="sm", font=sans, font_mono=mono
    )
    return base.set(
        **TEXT,
        body_background_fill="#fbfbfa",
        body_background_fill_dark="#111418",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#181c22",
        block_background_fill="*background_fill_primary",
        block_background_fill_dark="*background_fill_primary",
        block_border_width="1px",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_title_text_weight="500",
        # a button is readable as soon as it is enabled
        button_transition="background-color 0.2s ease, border-color 0.2s ease",
        border_color_primary="#d9dde2",
        border_color_primary_dark="#343b45",
        block_border_color="#d9dde2",
        block_border_color_dark="#343b45",
        input_background_fill="#ffffff",
        input_background_fill_dark="#12161b",
        input_border_width="1px",
        input_border_color="#c3c9d1",
        input_border_color_dark="#414a56",
        input_border_color_focus="*neutral_600",
        input_border_color_focus_dark="*neutral_300",
        checkbox_label_background_fill="transparent",
        checkbox_label_background_fill_dark="transparent",
        checkbox_label_background_fill_hover="*neutral_100",
        checkbox_label_background_fill_hover_dark="*neutral_800",
        checkbox_label_background_fill_selected="transparent",
        checkbox_label_background_fill_selected_dark="transparent",
        button_secondary_background_fill="*neutral_100",
        button_secondary_background_fill_hover="*neutral_200",
        button_secondary_background_fill_dark="#2a313a",
        button_secondary_background_fill_hover_dark="#39424e",
        background_fill_secondary_dark="#20262e",
        checkbox_label_border_width="1px",
        checkbox_label_border_color="#d9dde2",
        checkbox_label_border_color_dark="#343b45",
        checkbox_label_border_color_selected="*neutral_700",
        checkbox_label_border_color_selected_dark="*neutral_300",
        button_primary_background_fill="*neutral_800",
        button_primary_background_fill_hover="*neutral_950",
        button_primary_background_fill_dark="*neutral_200",
        button_primary_background_fill_hover_dark="*neutral_50",
        button_primary_text_color="white",
        button_primary_text_color_dark="*neutral_900",
        checkbox_background_color_selected="*neutral_800",
        checkbox_background_color_selected_dark="*neutral_500",
        slider_color="*neutral_700",
        slider_color_dark="*neutral_300",
    )
