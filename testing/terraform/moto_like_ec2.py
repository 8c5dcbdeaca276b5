"""moto's server, with AWS's behaviour where Terraform needs it: moto_like_ec2.py -H HOST -p PORT"""

import json

from moto.ec2.models.instances import Instance
from moto.server import main
from moto.sqs.models import Queue

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

attributes = Queue.attributes.fget


def attributes_in_compact_json(self):
    """SQS answers with a policy without white space; moto adds some, which a second plan would remove.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
    """
    found = attributes(self)
    if found.get("RedrivePolicy"):
        found["RedrivePolicy"] = json.dumps(json.loads(found["RedrivePolicy"]), separators=(",", ":"))
    return found


Queue.attributes = property(attributes_in_compact_json)

if __name__ == "__main__":
    main()
