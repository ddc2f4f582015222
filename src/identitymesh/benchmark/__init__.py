"""What `identitymesh bench` measures: people in a file, ten flow rules, one target; and the least that could do it."""
