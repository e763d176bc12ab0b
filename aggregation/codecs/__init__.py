"""How an update, or a checkpoint's difference, is written in fewer bytes."""
