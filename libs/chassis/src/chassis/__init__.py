"""All the wires of Remit's services: HTTP, bus, database, facts, tracing. The rooms of a service see none of them."""
