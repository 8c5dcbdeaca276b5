# Tests of the plan, without an AWS account: terraform init -backend=false && terraform test

mock_provider "aws" {
  source = "../mocks"
}

variables {
  name                 = "backstop-orders-function"
  description          = "Backup function of the MySQL shard orders"
  vpc_id               = "vpc-0123456789abcdef0"
  database_cidr_blocks = ["10.2.0.0/16", "10.1.0.0/16"]
  database_ports       = [3306, 3000]
  endpoints            = { mode = "nat" }
  tags                 = {}
}

run "the_databases_are_reached_on_their_ports_only" {
  assert {
    condition     = { for name, rule in aws_security_group_rule.egress : name => rule.from_port if rule.from_port == rule.to_port && name != "nat" } == { "3000" = 3000, "3306" = 3306 }
    error_message = "The ports differ from the variable."
  }
  assert {
    condition     = aws_security_group_rule.egress["3306"].cidr_blocks == tolist(["10.1.0.0/16", "10.2.0.0/16"])
    error_message = "The destinations differ from the variable."
  }
}

run "a_vpc_without_endpoints_goes_by_nat" {
  assert {
    condition     = contains(keys(aws_security_group_rule.egress), "nat") && output.security_group_ids == [aws_security_group.client.id]
    error_message = "AWS cannot be reached."
  }
}

run "a_vpc_with_endpoints_stays_inside" {
  variables {
    endpoints = { mode = "use", client_security_group_id = "sg-0123456789abcdef0" }
  }
  assert {
    condition     = !contains(keys(aws_security_group_rule.egress), "nat")
    error_message = "The client may leave the VPC."
  }
  assert {
    condition     = output.security_group_ids == [aws_security_group.client.id, "sg-0123456789abcdef0"]
    error_message = "The client cannot reach the endpoints."
  }
}
