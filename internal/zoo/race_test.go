//go:build race

package zoo

const race = true
