package redislimit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
)

// An answer is an error that Redis answers with.
type answer string

func (a answer) Error() string { return string(a) }
func (a answer) RedisError()   {}

// What the servers of many versions answer is told for what it is.
func TestTrouble(t *testing.T) {
	const failover = true
	for _, c := range []struct {
		err      error
		failover bool
		kind     kind
		want     string
	}{
		// Redis 7.0 and 7.2
		{answer("NOPERM this user has no permissions to run the 'evalsha' command"), false, config, "refuses: NOPERM this user has no permissions to run the 'evalsha' command"},
		{answer("NOPERM User tollgate has no permissions to run the 'evalsha' command"), false, config, "refuses: NOPERM User tollgate"},
		{answer("NOPERM this user has no permissions to access one of the keys used as arguments"), false, config | single, "refuses: NOPERM this user"},
		{answer("NOPERM No permissions to access a key"), false, config | single, "refuses: NOPERM No permissions"},
		{answer("ERR ACL failure in script: User tollgate has no permissions to run the 'set' command script: 02ab, on @user_script:362."), false, config, "refuses: ACL failure in script: User tollgate has no permissions to run the 'set' command (its ACL user lacks a command)"},
		{answer("WRONGTYPE Operation against a key holding the wrong kind of value script: 7c0f, on @user_script:12."), false, config | single | named, "refuses: key p:{k}: WRONGTYPE Operation against a key holding the wrong kind of value (something else is stored there)"},
		{answer("ERR user_script:120: bad data format. script: 7c0f, on @user_script:120."), false, config | single | named, "refuses: key p:{k}: bad data format."},
		{answer("READONLY You can't write against a read only replica. script: 7c0f, on @user_script:12."), false, config, "refuses: READONLY You can't write against a read only replica. (it is a replica)"},
		{answer("READONLY You can't write against a read only replica."), failover, passing, "refuses: READONLY"},
		{answer("OOM command not allowed when used memory > 'maxmemory'. script: 7c0f, on @user_script:1."), false, config, "refuses: OOM command not allowed when used memory > 'maxmemory'."},
		{answer("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk."), false, config, "refuses: MISCONF"},
		{answer("CROSSSLOT Keys in request don't hash to the same slot"), false, config | single, "refuses: CROSSSLOT"},
		{answer("ERR Script attempted to access a non local key in a cluster node"), false, config | single, "non local key"},
		{answer("ERR unknown command 'EVALSHA', with args beginning with: "), false, config, "refuses: unknown command 'EVALSHA', with args beginning with: (scripts are disabled)"},
		{answer("WRONGPASS invalid username-password pair or user is disabled."), false, config, "refuses: WRONGPASS"},
		{answer("NOAUTH Authentication required."), false, config, "refuses: NOAUTH"},
		{answer("DENIED Redis is running in protected mode because protected mode is enabled"), false, config, "refuses: DENIED"},
		{answer("MOVED 3999 127.0.0.1:6381"), false, config, "use redis.NewClusterClient"},
		{answer("MOVED 3999 127.0.0.1:6381"), failover, passing | single, "refuses: MOVED"},
		{answer("ERR This instance has cluster support disabled"), failover, config, "it is not a cluster"},
		{answer("ERR SELECT is not allowed in cluster mode"), false, config, "refuses: SELECT"},
		{answer("ERR DB index is out of range"), false, config, "refuses: DB index"},
		{answer("LOADING Redis is loading the dataset in memory"), false, passing, "refuses: LOADING"},
		{answer("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."), false, passing, "refuses: MASTERDOWN"},
		{answer("CLUSTERDOWN The cluster is down"), failover, passing, "refuses: CLUSTERDOWN"},
		{answer("TRYAGAIN Multiple keys request during rehashing of slot"), failover, passing | single, "refuses: TRYAGAIN"},
		{answer("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."), false, passing, "refuses: BUSY"},
		{answer("NOREPLICAS Not enough good replicas to write."), false, passing, "refuses: NOREPLICAS"},
		{answer("ERR max number of clients reached"), false, passing, "refuses: max number of clients reached"},
		// Redis 5 and 6
		{answer("ERR Error running script (call to f_7c0f): @user_script:12: WRONGTYPE Operation against a key holding the wrong kind of value"), false, config | single | named, "refuses: key p:{k}: WRONGTYPE Operation"},
		{answer("ERR Error running script (call to f_7c0f): @user_script:12: @user_script: 12: Unknown Redis command called from Lua script"), false, config, "refuses: Unknown Redis command called from Lua script"},
		{answer("ERR Error running script (call to f_7c0f): @user_script:12: -READONLY You can't write against a read only replica."), false, config, "READONLY You can't write"},
		{answer("ERR Error running script (call to f_7c0f): @user_script:12: NOPERM The user executing the script can't run this command or subcommand"), false, config, "refuses: NOPERM The user executing"},
		{answer("ERR Error running script (call to f_7c0f): @user_script:9: @user_script: 9: -OOM command not allowed when used memory > 'maxmemory'."), false, config, "OOM command not allowed"},
		{answer("ERR invalid password"), false, config, "refuses: invalid password"},
		{answer("ERR Client sent AUTH, but no password is set"), false, config, "refuses: Client sent AUTH"},
		{answer("SOMETHING new"), false, passing, "refuses: SOMETHING new"},
		// The way to it.
		{&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, false, passing, "unreachable: connection refused"},
		{&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "redis", IsNotFound: true}}, false, passing, "unreachable: no such host: redis"},
		{&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "i/o timeout", Name: "redis", IsTimeout: true}}, false, passing | unclear, "unreachable: looking up redis: i/o timeout"},
		{&net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}, false, passing | unclear, "unreachable: no answer in time"},
		{context.DeadlineExceeded, false, passing | unclear, "unreachable: no answer in time"},
		{io.EOF, false, passing | unclear, "unreachable: it closes the connection"},
		{redis.ErrPoolTimeout, false, passing | single, "not asked: all connections of the client's pool are in use"},
		{redis.ErrClosed, false, config, "unusable: its client is closed"},
		{errTLS, false, config, "unreachable: the server speaks TLS"},
	} {
		got, k := trouble(fmt.Errorf("tollgate: redis: %w", c.err), "p:{k}", c.failover)
		if k != c.kind || got.Config != (c.kind&config != 0) || !strings.Contains(got.What, c.want) {
			t.Errorf("%v:\nkind %b, %q\nwant %b, %q", c.err, k, got.What, c.kind, c.want)
		}
		if strings.Contains(got.What, "user_script") || strings.Contains(got.What, "7c0f") {
			t.Errorf("%q tells where in a script", got.What)
		}
		if done := errors.Is(got.Err, context.DeadlineExceeded); done {
			t.Errorf("%v says that a context is done", got.Err)
		}
	}
}
