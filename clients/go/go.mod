module imgate

go 1.19
