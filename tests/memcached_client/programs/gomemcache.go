// Stores the keys of standard input.
package main

import (
	"bufio"
	"fmt"
	"os"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

func main() {
	client := memcache.New(os.Args[2:]...)
	client.Timeout = time.Minute
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := client.Set(&memcache.Item{Key: lines.Text(), Value: []byte("1")}); err != nil {
			fmt.Println(lines.Text(), err)
			os.Exit(1)
		}
	}
	fmt.Print("done")
}
