# Answers of AWS in the tests of the modules.

mock_data "aws_caller_identity" {
  defaults = { account_id = "123456789012" }
}

mock_data "aws_partition" {
  defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
}

mock_data "aws_region" {
  defaults = { region = "eu-central-1" }
}

mock_data "aws_prefix_list" {
  defaults = { id = "pl-6ea54007" }
}

mock_data "aws_subnet" {
  defaults = { availability_zone = "eu-central-1b" }
}

mock_data "aws_ebs_snapshot" {
  defaults = {
    state       = "completed"
    volume_size = 100
    tags = {
      Cluster-name   = "orders"
      Backstop-State = "proven"
      Backstop-Run   = "20261123T235500Z-9f3a04c1"
      Backstop-Set   = "1"
    }
  }
}

mock_resource "aws_sqs_queue" {
  defaults = { arn = "arn:aws:sqs:eu-central-1:123456789012:backstop-orders-failed" }
}

mock_resource "aws_ebs_volume" {
  defaults = { id = "vol-0123456789abcdef0" }
}

mock_resource "aws_network_interface" {
  defaults = { private_ip = "10.1.2.3" }
}

mock_resource "aws_lambda_function" {
  defaults = { version = "7" }
}
