// What a user of Go's gomemcache sees. Argument: the port. Prints one line of JSON.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/bradfitz/gomemcache/memcache"
)

func word(err error) string {
	if err == nil {
		return "ok"
	}
	return err.Error()
}

func main() {
	client := memcache.New("127.0.0.1:" + os.Args[1])
	client.Timeout = 10e9
	seen := map[string]interface{}{}
	value := "any \r\n bytes \x00\xff"
	seen["set"] = word(client.Set(&memcache.Item{Key: "a", Value: []byte(value), Flags: 4294967295}))
	item, err := client.Get("a")
	seen["get"] = []interface{}{word(err), string(item.Value) == value, item.Flags}
	_, err = client.Get("nothing")
	seen["missing"] = word(err)
	seen["add"] = []string{
		word(client.Add(&memcache.Item{Key: "once", Value: []byte("1")})),
		word(client.Add(&memcache.Item{Key: "once", Value: []byte("2")})),
	}
	keys := []string{"nothing"}
	for i := 0; i < 500; i++ {
		key := fmt.Sprintf("many-%d", i)
		keys = append(keys, key)
		if err := client.Set(&memcache.Item{Key: key, Value: []byte(key)}); err != nil {
			panic(err)
		}
	}
	items, err := client.GetMulti(keys)
	right := len(items) == 500
	for key, item := range items {
		right = right && string(item.Value) == key
	}
	seen["get many"] = []interface{}{word(err), right}
	mine, _ := client.Get("once")
	late, _ := client.Get("once")
	mine.Value, late.Value = []byte("mine"), []byte("late")
	seen["cas"] = []string{word(client.CompareAndSwap(mine)), word(client.CompareAndSwap(late))}
	seen["set counter"] = word(client.Set(&memcache.Item{Key: "counter", Value: []byte("18446744073709551614")}))
	up, err := client.Increment("counter", 1)
	wrapped, _ := client.Increment("counter", 3)
	down, _ := client.Decrement("counter", 100)
	_, missing := client.Increment("nothing", 1)
	seen["count"] = []interface{}{fmt.Sprint(up), wrapped, down, word(err), word(missing)}
	seen["over"] = word(client.Set(&memcache.Item{Key: "over", Value: []byte("x"), Expiration: -1}))
	_, err = client.Get("over")
	seen["is over"] = word(err)
	seen["delete"] = []string{word(client.Delete("once")), word(client.Delete("once"))}
	large := strings.Repeat("x", 2000000)
	seen["too large"] = word(client.Set(&memcache.Item{Key: "large", Value: []byte(large)}))
	item, err = client.Get("a")
	seen["goes on"] = word(err)
	if err := json.NewEncoder(os.Stdout).Encode(seen); err != nil {
		panic(err)
	}
}
