module example.com/tollgate/bench

go 1.25.0

require example.com/tollgate v0.0.0

require (
	github.com/gofrs/flock v0.13.0 // indirect
	golang.org/x/sys v0.46.0 // indirect
)

require (
	github.com/bits-and-blooms/bitset v1.24.4 // indirect
	github.com/failsafe-go/failsafe-go v0.9.7
	github.com/influxdata/tdigest v0.0.1 // indirect
)

require (
	github.com/hashicorp/go-cleanhttp v0.5.2 // indirect
	github.com/hashicorp/go-retryablehttp v0.7.8
	golang.org/x/time v0.15.0
)

replace example.com/tollgate => ../
