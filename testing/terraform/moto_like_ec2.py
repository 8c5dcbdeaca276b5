"""moto's server, with what it leaves out of EC2 and Terraform needs: moto_like_ec2.py -H HOST -p PORT"""

import sys

from moto.ec2.models.instances import Instance
from moto.server import main

terminate = Instance.terminate


def terminate_and_let_go(self):
    """EC2 frees the network interfaces of an instance that ends; moto keeps them attached for ever."""
    kept = [nic for nic in self.nics.values() if not nic.delete_on_termination]
    before = terminate(self)
    for nic in kept:
        nic.attachment_id, nic.instance, nic.status = None, None, "available"
    return before


Instance.terminate = terminate_and_let_go
main(sys.argv[1:])
