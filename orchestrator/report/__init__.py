"""One page of figures from stored results: what the columns of a sweep allow, whatever sweep it is."""
