"""What the Python tests share: a real server process, its certificates, clients of both doors."""
