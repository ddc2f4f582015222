"""Reading from sources and writing to targets: the contract, the facade and the kinds."""
