"""The themes that t goes through, and the one of our own: black and white with few bright colours, for all to read."""

from textual.theme import Theme

HIGH_CONTRAST = Theme(
    name="high-contrast",
    primary="#7fdfff",
    secondary="#7fdfff",
    accent="#ffff00",
    warning="#ffd75f",
    error="#ff9f9f",
    success="#7fff7f",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#000000",
    boost="#000000",
    dark=True,
    variables={
        "contrast-least": "7",  # WCAG 2.2, 1.4.6: what text needs for people whose sight is weak
        "panel-lighten-2": "#1f1f1f",
        "border": "#ffffff",
        "border-blurred": "#ffffff",
        "footer-background": "#000000",
        "footer-key-foreground": "#ffff00",
        "footer-description-foreground": "#ffffff",
        "block-cursor-foreground": "#000000",
        "block-cursor-background": "#ffff00",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-foreground": "#000000",
        "block-cursor-blurred-background": "#ffffff",
        "input-cursor-background": "#ffff00",
        "input-selection-background": "#005f87",
        "text-muted": "#ffffff",
        "text-disabled": "#c0c0c0",
    },
)

# The first three are what most look for: dark, light, high contrast.
THEMES = (
    "textual-dark",
    "textual-light",
    HIGH_CONTRAST.name,
    "nord",
    "gruvbox",
    "tokyo-night",
    "solarized-light",
    "ansi-dark",
    "ansi-light",
)
