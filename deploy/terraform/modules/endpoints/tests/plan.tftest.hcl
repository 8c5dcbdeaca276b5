# Tests of the plan, without an AWS account: terraform init -backend=false && terraform test

mock_provider "aws" {
  source = "../shared/mocks"
}

variables {
  name            = "backstop"
  vpc_id          = "vpc-0123456789abcdef0"
  subnet_ids      = ["subnet-0123456789abcdef0"]
  route_table_ids = ["rtb-0123456789abcdef0"]
}

run "a_vpc_without_endpoints_gets_them" {
  assert {
    condition     = keys(aws_vpc_endpoint.service) == ["ec2", "secretsmanager"] && length(aws_vpc_endpoint.s3) == 1
    error_message = "The clients cannot reach AWS."
  }
  assert {
    condition     = length(aws_security_group_rule.from_clients) == 1 && aws_security_group_rule.from_clients["created"].source_security_group_id == aws_security_group.clients.id
    error_message = "The rules depend on the number of clients."
  }
}

run "existing_endpoints_get_one_rule_for_all_shards" {
  variables {
    services                    = ["secretsmanager"]
    route_table_ids             = []
    existing_s3_gateway_id      = "vpce-0123456789abcdef0"
    existing_security_group_ids = { ec2 = "sg-0123456789abcdef0" }
  }
  assert {
    condition     = length(aws_vpc_endpoint.s3) == 0 && keys(aws_vpc_endpoint.service) == ["secretsmanager"]
    error_message = "An existing endpoint would be created again."
  }
  assert {
    condition     = aws_security_group_rule.from_clients["existing-ec2"].security_group_id == "sg-0123456789abcdef0" && length(aws_security_group_rule.from_clients) == 2
    error_message = "The existing endpoint does not allow the clients."
  }
  assert {
    condition     = output.endpoint_ids["s3"] == "vpce-0123456789abcdef0"
    error_message = "The existing gateway endpoint is not used."
  }
  assert {
    condition     = aws_security_group_rule.to_s3.prefix_list_ids == tolist(["pl-6ea54007"])
    error_message = "The clients cannot reach S3."
  }
}

run "everything_exists" {
  variables {
    services                    = []
    subnet_ids                  = []
    route_table_ids             = []
    existing_s3_gateway_id      = "vpce-0123456789abcdef0"
    existing_security_group_ids = { all = "sg-0123456789abcdef0" }
  }
  assert {
    condition     = length(aws_vpc_endpoint.service) == 0 && length(aws_vpc_endpoint.s3) == 0
    error_message = "An existing endpoint would be created again."
  }
}

run "a_gateway_twice" {
  command = plan
  variables {
    existing_s3_gateway_id = "vpce-0123456789abcdef0"
  }
  expect_failures = [var.existing_s3_gateway_id]
}

run "no_gateway" {
  command = plan
  variables {
    route_table_ids = []
  }
  expect_failures = [var.existing_s3_gateway_id]
}

run "bad_group" {
  command = plan
  variables {
    existing_security_group_ids = { ec2 = "default" }
  }
  expect_failures = [var.existing_security_group_ids]
}
