//go:build !race

package redislimit_test

const race = false
