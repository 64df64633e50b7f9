package imapd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDraft(t *testing.T) {
	files, _ := filepath.Glob("/tmp/draft/*.in")
	for _, f := range files {
		t.Run(f, func(t *testing.T) {
			w := newWorld(t)
			b, _ := os.ReadFile(f)
			var out strings.Builder
			lines := strings.Split(string(b), "\n")
			for i := 0; i < len(lines); i++ {
				line := lines[i]
				fmt.Fprintln(&out, line)
				if line == "" || line[0] == '#' {
					continue
				}
				var body []byte
				for i+1 < len(lines) && strings.HasPrefix(lines[i+1], "|") {
					i++
					fmt.Fprintln(&out, lines[i])
					body = append(body, strings.TrimPrefix(lines[i][1:], " ")+"\r\n"...)
				}
				if err := w.step(line, body); err != nil {
					fmt.Fprintln(&out, "!!", err)
				}
				if exchange.MatchString(line) || strings.HasPrefix(line, "connect") {
					name := line[:1]
					if strings.HasPrefix(line, "connect") {
						name = strings.Fields(line)[1]
					}
					c := w.clients[name]
					if c == nil {
						continue
					}
				more:
					for {
						select {
						case l, ok := <-c.lines:
							if !ok {
								fmt.Fprintln(&out, name+" closed")
								break more
							}
							fmt.Fprintln(&out, name+"< "+l)
						case <-time.After(80 * time.Millisecond):
							break more
						}
					}
				}
			}
			os.WriteFile(strings.TrimSuffix(f, ".in")+".out", []byte(out.String()), 0o644)
		})
	}
}
