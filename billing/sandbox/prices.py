"""Products and their prices, found again by lookup key."""

from __future__ import annotations

from billing.sandbox.account import Account
from billing.sandbox.customers import merged
from billing.sandbox.lists import page
from billing.sandbox.refusals import Invalid, Thing

MONTH_SECONDS = 30 * 24 * 60 * 60


def create_product(account: Account, params: Thing) -> Thing:
    wanted = params.get("id", "")
    if wanted and account.lookup(wanted):
        raise Invalid("Product already exists.", param="id", code="resource_already_exists")
    product = account.add("product", _product(params), fixed_id=wanted)
    product["updated"] = product["created"]
    account.emit("product.created", product)
    if "default_price_data" in params:
        price = create_price(account, {**params["default_price_data"], "product": product["id"]})
        product["default_price"] = price["id"]
    return product


def _product(params: Thing) -> Thing:
    return {
        "active": params.get("active", True),
        "default_price": None,
        "description": params.get("description"),
        "images": params.get("images", []),
        "marketing_features": [],
        "metadata": dict(params.get("metadata") or {}),
        "name": params["name"],
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": params.get("statement_descriptor"),
        "tax_code": params.get("tax_code"),
        "type": "service",
        "unit_label": params.get("unit_label"),
        "url": params.get("url"),
    }


def update_product(account: Account, params: Thing, product_id: str) -> Thing:
    product = account.get("product", product_id)
    for name in ("active", "name", "description", "tax_code", "statement_descriptor", "unit_label", "url"):
        if name in params:
            product[name] = params[name] if params[name] != "" else None
    if "default_price" in params:
        product["default_price"] = account.get("price", params["default_price"], "default_price")["id"]
    product["metadata"] = merged(product["metadata"], params.get("metadata"))
    product["updated"] = account.now()
    account.changed(product)
    account.emit("product.updated", product)
    return product


def retrieve_product(account: Account, params: Thing, product_id: str) -> Thing:
    return account.get("product", product_id)


def list_products(account: Account, params: Thing) -> Thing:
    found = account.find("product")
    if "active" in params:
        found = account.find("product", active=params["active"])
    if "ids" in params:
        found = (each for each in found if each["id"] in params["ids"])
    return page(account, found, params, "/v1/products")


def create_price(account: Account, params: Thing) -> Thing:
    if params["currency"] != "usd":
        raise Invalid(
            f"Invalid currency: {params['currency']}. The sandbox knows usd alone.", param="currency"
        )
    cents = _cents(params)
    if "product_data" in params:
        product = create_product(account, params["product_data"])
    elif "product" in params:
        product = account.get("product", params["product"], "product")
    else:
        raise Invalid("You must specify either `product` or `product_data`.", code="parameter_missing")
    key = _taken(account, params, None)
    price = account.add("price", _price(params, cents) | {"lookup_key": key, "product": product["id"]})
    account.emit("price.created", price)
    return price


def _price(params: Thing, cents: int) -> Thing:
    recurring = params.get("recurring")
    return {
        "active": params.get("active", True),
        "billing_scheme": "per_unit",
        "currency": params["currency"],
        "custom_unit_amount": None,
        "lookup_key": None,
        "metadata": dict(params.get("metadata") or {}),
        "nickname": params.get("nickname"),
        "product": None,
        "recurring": {
            "interval": recurring["interval"],
            "interval_count": recurring.get("interval_count", 1),
            "meter": None,
            "trial_period_days": None,
            "usage_type": recurring.get("usage_type", "licensed"),
        }
        if recurring
        else None,
        "tax_behavior": params.get("tax_behavior", "unspecified"),
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring" if recurring else "one_time",
        "unit_amount": cents,
        "unit_amount_decimal": str(cents),
    }


def inline_price(account: Account, params: Thing, param: str) -> Thing:
    """The price of a line: `price`, or `price_data`, which makes an inactive price of its own."""
    if "price" in params:
        price = account.get("price", params["price"], f"{param}[price]")
        if not price["active"]:
            raise Invalid(f"The price specified is inactive: {price['id']}.", param=f"{param}[price]")
        return price
    if "price_data" in params:
        return create_price(account, {**params["price_data"], "active": False})
    raise Invalid(
        f"Missing required param: {param}[price].", param=f"{param}[price]", code="parameter_missing"
    )


def update_price(account: Account, params: Thing, price_id: str) -> Thing:
    price = account.get("price", price_id)
    if "lookup_key" in params:
        price["lookup_key"] = _taken(account, params, price_id)
    for name in ("active", "nickname", "tax_behavior"):
        if name in params:
            price[name] = params[name]
    price["metadata"] = merged(price["metadata"], params.get("metadata"))
    account.changed(price)
    account.emit("price.updated", price)
    return price


def retrieve_price(account: Account, params: Thing, price_id: str) -> Thing:
    return account.get("price", price_id)


def list_prices(account: Account, params: Thing) -> Thing:
    equal = {name: params[name] for name in ("active", "product", "type", "currency") if name in params}
    found = account.find("price", **equal)
    if "lookup_keys" in params:
        found = (each for each in found if each["lookup_key"] in params["lookup_keys"])
    return page(account, found, params, "/v1/prices")


def _cents(params: Thing) -> int:
    """Whole cents, from either spelling of the amount."""
    if "unit_amount" in params:
        return int(params["unit_amount"])
    if "unit_amount_decimal" in params and params["unit_amount_decimal"] % 1 == 0:
        return int(params["unit_amount_decimal"])
    raise Invalid("You must specify `unit_amount`; the sandbox knows whole cents alone.", param="unit_amount")


def _taken(account: Account, params: Thing, price_id: str | None) -> str | None:
    """The lookup key, taken from another price if that was asked for."""
    key: str | None = params.get("lookup_key") or None
    if key is None:
        return None
    for other in account.find("price", lookup_key=key):
        if other["id"] == price_id:
            continue
        if not params.get("transfer_lookup_key"):
            raise Invalid(
                f"A price (`{other['id']}`) already uses that lookup key.",
                param="lookup_key",
                code="resource_already_exists",
            )
        other["lookup_key"] = None
        account.changed(other)
    return key
