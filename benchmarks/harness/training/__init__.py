"""How two trainings are compared that differ in nothing but the loss: in turns, step by step."""
