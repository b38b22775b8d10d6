// Command example shows two processes that share one quota through Redis: the
// program starts itself twice, and both call an API that allows 10 requests in
// every 3 seconds, as often as they may.
//
//	go run ./example              # starts a redis-server of its own
//	go run ./example -redis host:6379
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/tollgate"
	"example.com/tollgate/quotatest"
	"example.com/tollgate/redislimit"
)

const (
	n   = 10
	per = 3 * time.Second
)

func main() {
	log.SetFlags(0)
	addr := flag.String("redis", "", "where Redis listens; empty: one is started")
	url := flag.String("url", "", "what to call; empty: two processes are started that call a fake API")
	name := flag.String("name", "", "of this process")
	flag.Parse()
	var err error
	if *url == "" {
		err = start(*addr)
	} else {
		err = call(*addr, *url, *name)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// call makes 15 calls at once.
func call(addr, url, name string) error {
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer c.Close()
	client := &http.Client{Transport: &tollgate.Retry{Base: &tollgate.Transport{
		Quotas:  tollgate.Quotas{"*": {{N: n, Per: per}}},
		Limiter: redislimit.New(c, redislimit.Options{Instances: 2}),
	}}}
	began := time.Now()
	var wg sync.WaitGroup
	for range 15 {
		wg.Go(func() {
			resp, err := client.Post(url, "application/json", strings.NewReader(`{"contents":[{"parts":[{"text":"Hello."}]}]}`))
			if err != nil {
				log.Print(err)
				return
			}
			defer resp.Body.Close()
			_, _ = io.Copy(io.Discard, resp.Body)
			fmt.Printf("%5.1fs  %s: %s\n", time.Since(began).Seconds(), name, resp.Status)
		})
	}
	wg.Wait()
	return nil
}

// start runs a fake API, Redis where there is none, and this program twice.
func start(addr string) error {
	if addr == "" {
		server, at, err := startRedis()
		if err != nil {
			return err
		}
		defer func() {
			_ = server.Process.Kill()
			_ = server.Wait()
		}()
		addr = at
	}
	api := &quotatest.Server{Limits: map[string][]quotatest.Limit{"*": {{N: n, Per: per, Count: quotatest.Sliding}}}}
	fake := httptest.NewServer(api)
	defer fake.Close()
	fmt.Printf("Two processes, 15 calls each, %d in every %v for both together\n", n, per)
	var processes []*exec.Cmd
	for _, name := range []string{"one", "two"} {
		p := exec.Command(os.Args[0], "-redis", addr, "-url", fake.URL+"/v1beta/models/gemini-2.5-flash:generateContent", "-name", name)
		p.Stdout, p.Stderr = os.Stdout, os.Stderr
		if err := p.Start(); err != nil {
			return err
		}
		processes = append(processes, p)
	}
	for _, p := range processes {
		if err := p.Wait(); err != nil {
			return err
		}
	}
	fmt.Printf("%d refused\n", api.Refused())
	return nil
}

// startRedis starts a server that keeps nothing.
func startRedis() (*exec.Cmd, string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	server := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no")
	if err := server.Start(); err != nil {
		return nil, "", fmt.Errorf("%w: install Redis, or say where it is with -redis", err)
	}
	addr := "127.0.0.1:" + port
	for range 100 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return server, addr, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	_ = server.Process.Kill()
	return nil, "", fmt.Errorf("redis-server does not answer at %s", addr)
}
