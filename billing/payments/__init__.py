"""Money that comes and goes through Stripe: customers, top-ups, subscriptions, refunds, disputes, monthly
invoices. A row is committed before Stripe is asked; what Stripe tells is read again there, then applied."""
