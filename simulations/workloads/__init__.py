"""Who is asked when: recorded and imagined traffic in one form, and what each model is like."""
