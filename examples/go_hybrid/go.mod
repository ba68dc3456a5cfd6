module hybrid

go 1.19
