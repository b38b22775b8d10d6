//go:build realservers

package bench

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/tollgate"
)

// The servers' limits: 30 in 6 s, a minute's 300 in short.
const (
	most = 30
	span = 6 * time.Second
)

// HAProxy counts in sliding windows: the requests of this period, and of those of
// the last one the part that it still shares. Its counter counts what it refuses,
// unless it is told not to track that. The last three are as it is mostly set up:
// who is refused is told to come back in a second, in a whole window or nothing.
const haproxyConf = `
global
	maxconn 500
defaults
	mode http
	timeout connect 5s
	timeout client 30s
	timeout server 30s
frontend steady
	bind 127.0.0.1:%[1]d
	stick-table type ip size 1k expire 60s store http_req_rate(6s)
	http-request track-sc0 src
	http-request deny deny_status 429 if { sc_http_req_rate(0) gt 30 }
	http-request return status 200 content-type text/plain string ok
frontend counted
	bind 127.0.0.1:%[2]d
	stick-table type ip size 1k expire 60s store http_req_rate(6s)
	http-request track-sc0 src
	http-request deny deny_status 429 if { sc_http_req_rate(0) gt 30 }
	http-request return status 200 content-type text/plain string ok
frontend uncounted
	bind 127.0.0.1:%[3]d
	stick-table type ip size 1k expire 60s store http_req_rate(6s)
	http-request deny deny_status 429 if { src,table_http_req_rate(uncounted) ge 30 }
	http-request track-sc0 src
	http-request return status 200 content-type text/plain string ok
frontend second
	bind 127.0.0.1:%[4]d
	stick-table type ip size 1k expire 60s store http_req_rate(20s)
	http-request track-sc0 src
	http-request return status 429 hdr Retry-After 1 if { sc_http_req_rate(0) gt 10 }
	http-request return status 200 content-type text/plain string ok
frontend whole
	bind 127.0.0.1:%[5]d
	stick-table type ip size 1k expire 60s store http_req_rate(20s)
	http-request track-sc0 src
	http-request return status 429 hdr Retry-After 20 if { sc_http_req_rate(0) gt 10 }
	http-request return status 200 content-type text/plain string ok
frontend nothing
	bind 127.0.0.1:%[6]d
	stick-table type ip size 1k expire 60s store http_req_rate(20s)
	http-request track-sc0 src
	http-request deny deny_status 429 if { sc_http_req_rate(0) gt 10 }
	http-request return status 200 content-type text/plain string ok
`

// nginx has a leaky bucket: without a burst of any size it wants requests evenly
// spread, to the millisecond.
const nginxConf = `
daemon off;
master_process off;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log;
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	root %[1]s/www; # what returns at once is not limited
	limit_req_status 429;
	limit_req_log_level info;
	limit_req_zone $binary_remote_addr zone=even:1m rate=300r/m;
	limit_req_zone $binary_remote_addr zone=burst:1m rate=300r/m;
	limit_req_zone $binary_remote_addr zone=window:1m rate=300r/m;
	limit_req_zone $binary_remote_addr zone=auto:1m rate=300r/m;
	server { listen 127.0.0.1:%[2]d; location / { limit_req zone=even; } }
	server { listen 127.0.0.1:%[3]d; location / { limit_req zone=burst burst=29 nodelay; } }
	server { listen 127.0.0.1:%[4]d; location / { limit_req zone=window burst=29 nodelay; } }
	server { listen 127.0.0.1:%[5]d; location / { limit_req zone=auto; } }
}
`

// start runs a server with the given configuration until the test ends, and
// returns its ports.
func start(t *testing.T, dir, conf string, ports []any, name string, args ...string) []string {
	t.Helper()
	file := filepath.Join(dir, name+".conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := exec.LookPath(name)
	if err != nil {
		path = "/usr/sbin/" + name // where Debian has them, and not everyone's PATH looks
	}
	var out bytes.Buffer
	cmd := exec.Command(path, append(args, file)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; make realservers installs what is missing", err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	var urls []string
	for _, p := range ports {
		addr := fmt.Sprintf("127.0.0.1:%d", p)
		for tries := 0; ; tries++ {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				c.Close()
				break
			}
			if tries == 100 {
				t.Fatalf("%s does not listen: %s", name, out.String())
			}
			time.Sleep(50 * time.Millisecond)
		}
		urls = append(urls, "http://"+addr+"/")
	}
	return urls
}

// free returns so many ports that nobody listens on.
func free(t *testing.T, n int) (ports []any) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

func TestRealServers(t *testing.T) {
	dir := t.TempDir()
	www := filepath.Join(dir, "www")
	if err := os.Mkdir(www, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(www, "index.html"), []byte("ok"), 0o644); err != nil {
		t.Fatal(err)
	}
	ports := free(t, 10)
	ha := start(t, dir, fmt.Sprintf(haproxyConf, ports[:6]...), ports[:6], "haproxy", "-db", "-f")
	ng := start(t, dir, fmt.Sprintf(nginxConf, append([]any{dir}, ports[6:]...)...), ports[6:], "nginx", "-p", dir, "-c")

	even := tollgate.Limit{N: most - 1, Per: span, Refill: tollgate.Steady, Burst: 1}
	burst := tollgate.Limit{N: most, Per: span, Refill: tollgate.Steady}
	window := tollgate.Limit{N: most, Per: span}
	const n, few = 300, 25
	slow := tollgate.Limit{N: 10, Per: 20 * time.Second}
	twice := 2 * slow.Per                         // 25 of 10 in 20 s
	atOnce := time.Duration(n-most) * span / most // after a burst
	tests := []struct {
		name    string
		url     string
		n       int
		limit   tollgate.Limit
		ideal   time.Duration
		refused int64
		ratio   float64
	}{
		{"HAProxy, Steady, Burst 1", ha[0], n, even, (n - 1) * span / (most - 1), 3, 1.03},
		{"HAProxy, Auto, refused ones count", ha[1], n, window, atOnce, 90, 1.4},
		{"HAProxy, Auto, refused ones do not", ha[2], n, window, atOnce, 60, 1.25},
		{"HAProxy, counted, come back in a second", ha[3], few, slow, twice, 15, 6},
		{"HAProxy, counted, in a whole window", ha[4], few, slow, twice, 15, 6},
		{"HAProxy, counted, says nothing", ha[5], few, slow, twice, 15, 6},
		{"nginx, Steady, Burst 1", ng[0], n, even, (n - 1) * span / (most - 1), 3, 1.03},
		{"nginx with a burst, Steady", ng[1], n, burst, atOnce, 3, 1.03},
		{"nginx with a burst, Auto", ng[2], n, window, atOnce, 3, 1.03},
		{"nginx, Auto", ng[3], n, window, (n - 1) * span / most, 60, 1.25},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var ok, refused atomic.Int64
			var learned []string
			var mu sync.Mutex
			base := &http.Transport{MaxIdleConnsPerHost: 100}
			defer base.CloseIdleConnections()
			client := &http.Client{Transport: &tollgate.Retry{Base: &tollgate.Transport{
				Base:   base,
				Quotas: tollgate.Quotas{"*": {test.limit}},
				Trace: &tollgate.Trace{
					Refused: func(*http.Request, tollgate.RefusalInfo) { refused.Add(1) },
					Learned: func(_ *http.Request, i tollgate.LearnInfo) {
						mu.Lock()
						defer mu.Unlock()
						learned = append(learned, fmt.Sprintf("%v, %v", i.To, i.To.Refill))
					},
				},
			}}}
			began := time.Now()
			var wg sync.WaitGroup
			for range test.n {
				wg.Go(func() {
					resp, err := client.Get(test.url)
					if err != nil {
						t.Error(err)
						return
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if resp.StatusCode == http.StatusOK {
						ok.Add(1)
					}
				})
			}
			wg.Wait()
			took := time.Since(began)
			ratio := took.Seconds() / test.ideal.Seconds()
			t.Logf("%-40s %d of %d ok, %d refused, %.1fs, %.3f of ideal; %s", test.name, ok.Load(), test.n, refused.Load(), took.Seconds(), ratio, strings.Join(learned, "; "))
			if ok.Load() != int64(test.n) || refused.Load() > test.refused || ratio > test.ratio {
				t.Errorf("want all, at most %d refused, at most %.2f", test.refused, test.ratio)
			}
		})
	}
}
