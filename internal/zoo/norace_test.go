//go:build !race

package zoo

const race = false
