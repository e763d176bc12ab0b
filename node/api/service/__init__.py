"""What a running node can be asked through its local API, as interfaces."""
