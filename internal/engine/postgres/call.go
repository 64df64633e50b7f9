package postgres

import (
	"encoding/binary"
	"fmt"
)

// call gathers a call of a statement: of int64, string, []byte, []int64, [][]byte or nil.
func (c *conn) call(st *statement, args []any) {
	c.bind(st, len(args))
	for _, arg := range args {
		switch arg := arg.(type) {
		case nil:
			c.null()
		case int64:
			c.int64(arg)
		case string:
			c.string(arg)
		case []byte:
			c.bytes(arg)
		case []int64:
			c.array(typeBigint, len(arg), func(i int) {
				c.out = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(c.out, 8), uint64(arg[i]))
			})
		case [][]byte:
			c.array(typeBytea, len(arg), func(i int) { c.bytes(arg[i]) })
		default:
			panic(fmt.Sprintf("a parameter of type %T", arg))
		}
	}
	c.execute()
}
