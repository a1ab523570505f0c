"""The owners of the queue's state, and what everybody else asks of them."""
