"""What all hosted pages look like: one column, no script, the notice that no real money moves."""

from __future__ import annotations

from html import escape

from billing.sandbox import cards

_STYLE = """
:root { color-scheme: light dark; --line: #d5d9e0; --soft: #6b7280; --act: #4338ca; --bad: #b42318; }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; background: Canvas; color: CanvasText; }
.notice { background: #7c2d12; color: #fff; padding: .5rem 1rem; text-align: center; font-weight: 600; }
main { max-width: 30rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.25rem; margin: 0 0 .25rem; } h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
.total { font-size: 2rem; font-weight: 700; margin: 0 0 1rem; }
table { width: 100%; border-collapse: collapse; margin: 0 0 1rem; }
td, th { padding: .35rem 0; border-bottom: 1px solid var(--line); text-align: left; overflow-wrap: anywhere; }
td:last-child, th:last-child { text-align: right; }
label { display: block; margin: .75rem 0 .25rem; font-weight: 600; }
label.tick { display: flex; gap: .5rem; align-items: center; font-weight: 400; }
input:not([type=radio], [type=checkbox]) { width: 100%; padding: .6rem; font: inherit;
  border: 1px solid #8a93a3; border-radius: .4rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
button { font: inherit; font-weight: 600; padding: .65rem 1rem; border-radius: .4rem;
  border: 1px solid #8a93a3; background: transparent; color: inherit; cursor: pointer; min-height: 2.75rem; }
button.main { width: 100%; margin-top: 1.25rem; background: var(--act); color: #fff; }
:focus-visible { outline: 3px solid #f59e0b; outline-offset: 2px; }
.error { border: 2px solid var(--bad); color: var(--bad); border-radius: .4rem; padding: .6rem .8rem; }
.soft { color: var(--soft); } .row { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; }
.row form { display: inline; } .row > span { flex: 1 1 10rem; }
details { margin-top: 1.5rem; } code { font-size: .9em; }
fieldset { border: 1px solid var(--line); border-radius: .4rem; margin: 1rem 0; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a4150; --soft: #a3acbb; --bad: #f9857b; --act: #5b52e0; } }
"""


def whole(title: str, body: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · Stripe sandbox</title><style>{_STYLE}</style></head><body>"
        '<div class="notice" role="note">Stripe sandbox: no real money</div>'
        f"<main>{body}</main></body></html>"
    )


def dollars(cents: int) -> str:
    size = abs(cents)
    return f"{'−' if cents < 0 else ''}${size // 100:,}.{size % 100:02}"


def error(said: str) -> str:
    return f'<p class="error" role="alert" id="error">{escape(said)}</p>' if said else ""


def link(url: str | None, text: str) -> str:
    return f'<p><a href="{escape(url, quote=True)}">{escape(text)}</a></p>' if url else ""


def test_cards() -> str:
    """Which numbers there are to try."""
    rows = "".join(
        f"<tr><td><code>{_spaced(card.number)}</code></td><td>{escape(card.told)}</td></tr>"
        for card in cards.CARDS.values()
    )
    return f"<details><summary>Test cards</summary><table>{rows}</table></details>"


def card_fields() -> str:
    return (
        '<label for="number">Card number</label>'
        '<input id="number" name="number" inputmode="numeric" autocomplete="cc-number"'
        ' placeholder="4242 4242 4242 4242">'
        '<div class="pair"><div><label for="expiry">Expiry (MM/YY)</label>'
        '<input id="expiry" name="expiry" inputmode="numeric" autocomplete="cc-exp"'
        ' placeholder="12/34"></div>'
        '<div><label for="cvc">CVC</label>'
        '<input id="cvc" name="cvc" inputmode="numeric" autocomplete="cc-csc" placeholder="123"></div></div>'
    )


def _spaced(number: str) -> str:
    return " ".join(number[at : at + 4] for at in range(0, len(number), 4))
