"""Documents of money: what they say, and how that is shown, typeset and sent."""
