"""moto's server, with EC2's behaviour where Terraform needs it: moto_like_ec2.py -H HOST -p PORT"""

from moto.ec2.models.instances import Instance
from moto.server import main

terminate = Instance.terminate


def terminate_and_free_interfaces(self):
    """EC2 frees the network interfaces of a terminated instance, unless they are deleted with it; moto keeps them attached.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-eni.html
    """
    kept = [nic for nic in self.nics.values() if not nic.delete_on_termination]
    before = terminate(self)
    for nic in kept:
        nic.attachment_id, nic.instance, nic.status = None, None, "available"
    return before


Instance.terminate = terminate_and_free_interfaces

if __name__ == "__main__":
    main()
