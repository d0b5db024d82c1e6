"""Text that breaks out of its place wherever it is not escaped: of attributes, tags, comments, scripts and cells."""

HOSTILE = (
    '</script></span><!-- <img src=x onerror="window.hacked=1"><script>alert(2)</script><b>bold</b>'
    "'\"& =1+1 \u2028 12 日本 adolescent 🙂\x00\n"
)
