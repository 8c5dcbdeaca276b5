output "statements" {
  description = "IAM statements; none without keys."
  value = length(var.key_arns) == 0 ? [] : [
    {
      Sid       = "UseVolumeKeys"
      Effect    = "Allow"
      Action    = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncrypt*"]
      Resource  = sort(var.key_arns)
      Condition = { StringEquals = local.through_ec2 }
    },
    {
      Sid      = "LendVolumeKeysToEC2"
      Effect   = "Allow"
      Action   = ["kms:CreateGrant"]
      Resource = sort(var.key_arns)
      Condition = {
        StringEquals = local.through_ec2
        Bool         = { "kms:GrantIsForAWSResource" = "true" }
      }
    },
  ]
}
