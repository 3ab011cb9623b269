module subnets

go 1.19
