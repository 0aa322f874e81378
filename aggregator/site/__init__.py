"""What anybody may read of the product as a whole, whichever app it comes from: landing page, docs."""
