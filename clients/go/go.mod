module github.com/tallyd/tallyd/clients/go

go 1.19
