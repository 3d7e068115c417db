"""What a client of a build can be asked over its session: gRPC methods, and keys of their metadata.

Source: moby/buildkit session, with the packages secrets, sshforward, upload and content.
"""

SECRET = "/moby.buildkit.secrets.v1.Secrets/GetSecret"  # noqa: S105 - a path
CHECK_AGENT = "/moby.sshforward.v1.SSH/CheckAgent"
FORWARD_AGENT = "/moby.sshforward.v1.SSH/ForwardAgent"
UPLOAD = "/moby.upload.v1.Upload/Pull"
CONTENT = "/containerd.services.content.v1.Content/"  # the service; its methods follow

AGENT_ID = "buildkit.ssh.id"
STORE_ID = "buildkit-attachable-store-id"
