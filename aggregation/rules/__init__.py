"""How updates become one: each rule, and what is done to updates before one."""
