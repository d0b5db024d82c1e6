"""The address of what is being inspected: the place in the query, the text in the fragment, which no server sees."""

from collections.abc import Mapping

PARTS = ("text", "position", "corpus", "reliability", "several")
# Longer addresses are cut by chat programs and refused by some servers on the way.
MOST_ENCODED = 6_000

_SHARED = f"""
const most = {MOST_ENCODED};
const coded = async (text) => {{
  const squeezed = new Blob([text]).stream().pipeThrough(new CompressionStream('deflate-raw'));
  const bytes = new Uint8Array(await new Response(squeezed).arrayBuffer());
  if (bytes.length > most) return null;
  const plain = btoa(String.fromCharCode(...bytes)).replace(/\\+/g, '-').replace(/\\//g, '_').replace(/=+$/, '');
  return plain.length > most ? null : plain;
}};
"""

# Kept up to date as one types; a text that is too long leaves the address without one.
WRITE = f"""async (text) => {{
  {_SHARED}
  window.inspectTyped = (window.inspectTyped || 0) + 1;
  const turn = window.inspectTyped;
  if (!window.studioRestored) return;
  const code = text && text.length < 200000 ? await coded(text) : null;
  if (turn !== window.inspectTyped) return;
  const url = new URL(window.location);
  url.hash = code ? 'text=' + code : '';
  window.history.replaceState(null, '', url);
}}"""

# Decoding stops at MOST characters: a link can be made to unfold into gigabytes.
READ = """async (text) => {
  const code = new URLSearchParams(window.location.hash.slice(1)).get('text');
  if (!code) return text;
  try {
    const bytes = Uint8Array.from(atob(code.replace(/-/g, '+').replace(/_/g, '/')), c => c.charCodeAt(0));
    const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw')).getReader();
    const decoder = new TextDecoder();
    let found = '';
    for (let part = await reader.read(); !part.done && found.length < 1000000; part = await reader.read())
      found += decoder.decode(part.value, {stream: true});
    return found + decoder.decode();
  } catch {
    return text;
  }
}"""

PLACE = """(part, at) => {
  if (!window.studioRestored) return;
  const url = new URL(window.location);
  url.searchParams.set('part', part);
  at ? url.searchParams.set('at', at) : url.searchParams.delete('at');
  window.history.replaceState(null, '', url);
}"""

COPY = f"""async (teacher, student, part, at, text) => {{
  {_SHARED}
  const url = new URL(window.location);
  const place = {{step: 'inspect', teacher, student, part, at: at || ''}};
  url.search = '';
  Object.entries(place).forEach(([name, value]) => value && url.searchParams.set(name, value));
  const code = text ? await coded(text) : '';
  url.hash = code ? 'text=' + code : '';
  window.history.replaceState(null, '', url);
  const line = (kind, mark, told) =>
    `<p class="note note-${{kind}}" role="status"><span aria-hidden="true">${{mark}}</span>${{told}}</p>`;
  const whole = code === null
    ? `It has no text in it: ${{text.length.toLocaleString()}} characters are too many for a link.`
    : 'It restores the pair, the text and the position.';
  try {{
    await navigator.clipboard.writeText(url.href);
    return line(code === null ? 'warn' : 'ok', code === null ? '!' : '✓', 'Link copied. ' + whole);
  }} catch {{
    return line('warn', '!', 'The link stands in the address bar: copy it from there. ' + whole);
  }}
}}"""


def place(asked: Mapping[str, str]) -> tuple[str, int]:
    """Which part and which unit the query of an address names; anything else is the text and its first unit."""
    part, at = asked.get("part", ""), asked.get("at", "")
    return (part if part in PARTS else PARTS[0]), (int(at) if at.isdecimal() and len(at) < 10 else 0)
