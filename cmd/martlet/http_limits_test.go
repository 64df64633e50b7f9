package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/promise"
)

// R19 for HTTP: whoever sends a request byte by byte, its header or its body, and whoever
// does not read the answers, is cut off; others are served meanwhile.
func TestR19SlowHTTP(t *testing.T) {
	_, address := startWithHTTP(t, "[limits]\nrequest_time = \"2s\"\n")
	const beat = 50 * time.Millisecond
	phases := map[string]struct{ before, slow string }{
		"nothing":                {"", ""},
		"request line":           {"", "G"},
		"header":                 {"GET /healthz HTTP/1.1\r\nHost: x\r\n", "X: y\r\n"},
		"body":                   {"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", "x"},
		"chunks":                 {"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"},
		"answers that wait":      {strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 400), ""},
		"between requests":       {"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n"},
		"request after the next": {"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "GET /heal"},
	}
	var cut atomic.Int32
	var wg sync.WaitGroup
	n := promise.Times(t, "R19", 5, 100)
	for name, p := range phases {
		for range n {
			wg.Go(func() {
				nc, err := net.Dial("tcp", address)
				if err != nil {
					t.Error(err)
					return
				}
				defer nc.Close()
				go io.WriteString(nc, p.before)
				for i := range 600 { // half a minute, and the deadline is two seconds
					time.Sleep(beat)
					if !strings.HasPrefix(name, "answers") { // that one does not read
						nc.SetReadDeadline(time.Now().Add(time.Millisecond))
						if _, err := io.Copy(io.Discard, nc); err == nil || !os.IsTimeout(err) {
							cut.Add(1)
							return
						}
					}
					text := p.slow
					if text == "" {
						text = "G"
					}
					if name == "nothing" {
						continue
					}
					if _, err := nc.Write([]byte{text[i%len(text)]}); err != nil {
						cut.Add(1)
						return
					}
				}
				t.Errorf("%s: not cut off", name)
			})
		}
	}
	served := 0
	for range 20 {
		if status, _ := rawHTTP(t, address, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); status == 200 {
			served++
		}
	}
	if served != 20 {
		t.Errorf("%d of 20 requests were served beside slow clients", served)
	}
	wg.Wait()
	promise.Kept(t, "R19", "what", "HTTP", "slow clients", n*len(phases), "cut off", cut.Load(), "served beside them", served)
}

// R21 for HTTP: whatever stands in a request, little of it is kept.
func TestR21MemoryOfHTTP(t *testing.T) {
	_, address := startWithHTTP(t)
	held := func() int64 {
		var m runtime.MemStats
		for range 3 {
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	var many strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&many, "%c%c%c:\r\n", 'a'+i%26, 'a'+i/26%26, 'a'+i/676)
	}
	const get = "GET /healthz HTTP/1.1\r\nHost: x\r\n"
	worst := int64(0)
	for name, text := range map[string]string{
		"nothing": "", "a header": get, "many fields": get + many.String(), "a long field": get + "X: " + strings.Repeat("y", 1<<20),
		"many values": get + strings.Repeat("X:\r\n", 8000), "a long path": "GET /" + strings.Repeat("x", 1<<20),
		"all fields that are taken": get + many.String()[:6*140], "most fields": get + many.String()[:5900], "most values": get + strings.Repeat("a:\n", 1960),
		"a body":                     "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 200<<10),
		"a question of Autodiscover": "POST /autodiscover/autodiscover.xml HTTP/1.1\r\nHost: mail.example.org\r\nContent-Length: 16000\r\n\r\n" + strings.Repeat("<a>", 5000),
	} {
		const conns = 32
		before := held()
		var all []net.Conn
		for range conns {
			nc, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			nc.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			go io.WriteString(nc, text)
			all = append(all, nc)
		}
		time.Sleep(300 * time.Millisecond)
		each := (held() - before) / conns
		t.Logf("%s: %d bytes for each connection", name, each)
		if worst = max(worst, each); each > 64<<10 {
			t.Errorf("%s: %d bytes for each connection", name, each)
		}
		for _, nc := range all {
			nc.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	promise.Kept(t, "R21", "what", "HTTP", "KiB each at worst", worst>>10)
}
