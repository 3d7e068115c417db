"""Which version this program has, and which versions of published interfaces it speaks."""

VERSION = "0.1.0"
API_VERSION, MIN_API_VERSION = "1.51", "1.24"  # of the Engine API
OCI_VERSION = "1.2.1"  # of the runtime specification
