"""Documents of money: what they say, when they are issued and proven, how they are shown, typeset and sent.

`Document.content` is JSON of this shape, and `content.canonical` the one way to write it as bytes. Amounts
are plain decimal strings in USD with every digit they have (`"0.00000123"`, `"-12.5"`), instants ISO 8601 in
UTC. No part of it is a float.

    version         2; what was issued before there was one says none, and is 1. `recompute` goes by it
    kind            "statement" | "invoice" | "credit_note"
    purpose         "month" | "postpaid" | "subscription" | "correction"
    number          "ST-2026-000001" | "IN-…" | "CN-…"; null in a running statement
    issued_at       when it was issued; in a running statement, as of when it is
    currency        "USD"
    month           "2026-11"; null for a subscription's invoice
    period          {"from", "until"}, half-open; null for a subscription's invoice
    seller          {"name", "address": [line…], "tax_id", "email"}
    buyer           {"name", "id", "email", "address": [line…], "tax_id", "reference"}
    plan            the slug of the plan in force at the end of the period
    usage           [{"model", "endpoint", "provider", "key", "key_name",
                      "used_in": "2026-10" of a late call | null in the document's own month,
                      "kind": "charged" | "capped" | "free", "requests", "markup": "0.05",
                      "price": id of the price row | null, "window", "tier" (from 1; 0 is none),
                      "items": [{"kind", "units",
                                 "unit_price": USD per million tokens, of "request" per request; null where
                                               the line has none of its own: it is free, or its price is
                                               not known,
                                 "base": units × unit price | null}],
                      "base", "markup_amount", "amount"}]
    others          where there are more than `usage_lines.MOST_LISTED`: the cheaper ones summed by model,
                    [{"model", "lines", "requests", "base", "markup_amount", "amount"}]; else []
    uncharged       what holds did not cover, "0" or less
    rounding        what one rounding a call leaves
    usage_total     Σ amounts of `usage` and `others` + uncharged + rounding = Σ charges of the calls
    requests        of all calls on it
    late            {"requests", "amount"}: the part of usage_total that was used in earlier months
    subscription    [{"says", "at", "amount", "tax", "invoice": "in_…"}]: of an invoice its lines; of a month
                    what was paid and given back for the plan, on invoices of their own: in no total
    rebate          {"amount", "posted", "detail": [{"from", "until", "plan", "rate", "threshold", "basis",
                     "usage", "amount"} | {"used_in", "usage", "amount"}]} | null; an amount of zero or more
    fees            [{"says", "at", "amount", "posted"}], zero or more
    credits         [{"says", "at", "kind", "amount", "tax", "expires_at", "source"}]: top-ups, grants, paid
    refunds         invoices, credit notes; refunds (and those that failed); disputes (and those won);
    disputes        promotions whose time was over. `amount` is what the balance gained: of refunds, disputes
    expired         and what expired it is below zero. `kind` is the posting's.
    tax             [{"kind", "says", "amount"}]: the tax in the payments of the month, by kind of posting
    opening_balance, closing_balance
                    of a month; null else. closing = opening − usage_total − fees + rebate + credits + refunds
                    + disputes + expired, and it is the next document's opening. (A fee or rebate that is not
                    posted, in a running statement, is in the total and not yet in the balance.)
    due             of an invoice: {"carried", "cents", "tax_cents", "total_cents", "due_at",
                    "stripe_invoice"}; total + carried = cents. Carried is what earlier months left over,
                    less the credit there was. Whether it is paid is not frozen: see `standing.of`.
    corrects        of a credit note: {"id", "number", "issued_at", "reason", "to": "wallet"}
    total           of a month: usage_total + fees − rebate. Of a subscription's invoice: Σ of its lines. Of a
                    credit note: what is given back. Tax is never in it.

Usage goes by the month of `BilledUsage`, rebate and fee by theirs, all else by when it was booked.

    closing         issues what is due: months in their order, invoices of subscriptions
    running         the open month as it stands now, of the same shape
    credit_notes    corrects a document, and gives the money back
    recompute       the same bytes again, from rows
    standing        what becomes of a document: paid, overdue, credited
    issued          told of every new document, after the commit
"""
