"""The developers' tool: `./dev` lists what it can do."""
