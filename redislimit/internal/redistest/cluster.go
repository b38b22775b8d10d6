package redistest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Cluster starts a cluster of three servers, and returns a client of it that
// ends with the test.
func Cluster(t testing.TB) *redis.ClusterClient {
	t.Helper()
	ctx := context.Background()
	var addrs []string
	var nodes []*redis.Client
	for i := range 3 {
		s := Start(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
		c := s.Client()
		defer c.Close()
		if err := c.ClusterAddSlotsRange(ctx, i*16384/3, (i+1)*16384/3-1).Err(); err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			if err := c.ClusterMeet(ctx, "127.0.0.1", strings.TrimPrefix(addrs[0], "127.0.0.1:")).Err(); err != nil {
				t.Fatal(err)
			}
		}
		addrs, nodes = append(addrs, s.Addr()), append(nodes, c)
	}
	for range 400 {
		ready := 0
		for _, c := range nodes {
			if info := c.ClusterInfo(ctx).Val(); strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3") {
				ready++
			}
		}
		if ready == len(nodes) {
			c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, ContextTimeoutEnabled: true})
			t.Cleanup(func() { c.Close() })
			return c
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("the cluster is not ready: %s", nodes[0].ClusterInfo(ctx).Val())
	return nil
}
