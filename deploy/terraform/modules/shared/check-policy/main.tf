# IAM policy of principals that run `backstop check --aws`: its reads, beside the actions of the role that is checked.
# docs/first-day.md lists the actions; testing/terraform/test_policies.py compares.

locals {
  statements = concat(
    [{
      Sid    = "DescribeTheAccount"
      Effect = "Allow"
      # EC2 supports no resource-level permissions for these actions.
      Action = [
        "ec2:DescribeImages", "ec2:DescribeInstanceTypes", "ec2:DescribeInstances", "ec2:DescribeSnapshots", "ec2:DescribeVolumes",
      ]
      Resource = ["*"]
    }],
    length(var.key_arns) == 0 ? [] : [{
      Sid      = "ReadVolumeKeys"
      Effect   = "Allow"
      Action   = ["kms:DescribeKey", "kms:ListGrants"]
      Resource = sort(var.key_arns)
    }],
  )
}
