"""The proxies that are compared, each before an upstream of its own, configured as their manuals do it."""

import pathlib

from processes import free_ports

# Short, so that a case that waits for it does not take minutes.
HEAD_SECONDS = 2

NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_header_timeout {seconds}s;
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream api {{ server 127.0.0.1:{upstream}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port};
    server_name im.example.com;
    location / {{
      proxy_pass http://api;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Real-IP $remote_addr;
    }}
    location = /ws {{
      proxy_pass http://api;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
    }}
  }}
}}
"""

HAPROXY = """
global
  maxconn 256
defaults
  mode http
  option forwardfor
  timeout connect 2s
  timeout client 10s
  timeout server 10s
  timeout http-request {seconds}s
frontend edge
  bind 127.0.0.1:{port}
  default_backend api
backend api
  server one 127.0.0.1:{upstream}
"""

IMGATE = """
listeners: [{{ address: "127.0.0.1:{port}" }}]
public_url: https://im.example.com
access_log: {{ output: off }}
identity: {{ store: {{ memory: {{}} }} }}
upstreams: {{ api: {{ servers: ["127.0.0.1:{upstream}"] }} }}
chains:
  open: [{{ operation_id: {{}} }}, {{ strip_credentials: {{}} }}]
  user:
    - operation_id: {{}}
    - verify_signature: {{}}
    - strip_credentials: {{}}
  socket: [{{ verify_socket: {{ mode: passthrough }} }}]
routes:
  - {{ path: /ws, websocket: api, chain: socket }}
  - {{ path: /friend/get_friend_list, upstream: api, chain: user }}
  - {{ prefix: /login/, upstream: api, chain: open, public: true }}
  - {{ prefix: /files/, upstream: api, chain: open, public: true, stream: true }}
"""


class Target:
    """A proxy that runs, and the upstream behind it."""

    def __init__(self, name, port, upstream):
        self.name, self.port, self.upstream = name, port, upstream


def start(name, processes, folder, upstream, imgate):
    """Starts a proxy by its name."""
    (port,) = free_ports(1)
    folder = pathlib.Path(folder)
    template, file = {"nginx": (NGINX, "nginx.conf"), "HAProxy": (HAPROXY, "haproxy.cfg"), "imgate": (IMGATE, "imgate.yaml")}[name]
    path = folder / file
    path.write_text(template.format(folder=folder, port=port, upstream=upstream.port, seconds=HEAD_SECONDS))
    argv = {
        "nginx": ["/usr/sbin/nginx", "-p", str(folder), "-c", str(path)],
        "HAProxy": ["/usr/sbin/haproxy", "-f", str(path)],
        "imgate": [imgate, "run", "-c", str(path)],
    }[name]
    processes.start(name, argv, port)
    return Target(name, port, upstream)
