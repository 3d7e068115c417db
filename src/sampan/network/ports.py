"""Published ports: the text forms of the Engine API, and which host ports they mean.

Pure functions; nothing here asks the host. Source of the rules and messages: moby
daemon/container_operations.go, go-connections nat/nat.go, libnetwork/drivers/bridge.
"""
