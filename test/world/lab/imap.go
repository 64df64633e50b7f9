package lab

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// fetchAll reads all messages of a mailbox over IMAP, without setting \Seen.
func fetchAll(c net.Conn, login, mailbox string) (all []string, err error) {
	in := bufio.NewReader(c)
	if _, err := in.ReadString('\n'); err != nil {
		return nil, err
	}
	for i, line := range []string{fmt.Sprintf("LOGIN %q %q", login, Password), fmt.Sprintf("EXAMINE %q", mailbox), "FETCH 1:* BODY.PEEK[]"} {
		fmt.Fprintf(c, "a%d %s\r\n", i, line)
		for {
			text, err := in.ReadString('\n')
			if err != nil {
				return all, err
			}
			if strings.HasPrefix(text, fmt.Sprintf("a%d ", i)) {
				if i < 2 && !strings.HasPrefix(text, fmt.Sprintf("a%d OK", i)) {
					return nil, fmt.Errorf("%s: %s", line, text)
				}
				break
			}
			at, size := strings.LastIndexByte(text, '{'), 0
			if !strings.HasSuffix(text, "}\r\n") || at < 0 {
				continue
			}
			if size, err = strconv.Atoi(strings.TrimSuffix(text[at+1:], "}\r\n")); err != nil {
				return all, err
			}
			message := make([]byte, size)
			if _, err := io.ReadFull(in, message); err != nil {
				return all, err
			}
			all = append(all, string(message))
		}
	}
	return all, nil
}
