package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strconv"

	"souk/node/core/consumer"
	"souk/node/core/step"
)

// lineMost bounds one line of a stream, bytes.
const lineMost = 4 << 20

// A message is one server-sent event.
type message struct {
	event string
	data  []byte
}

// follow reads the events of a stream until it ends. What the node says went wrong is a *step.Problem. A stream that ends
// without saying so was cut off, and is an error.
func (c *Client) follow(ctx context.Context, path string) iter.Seq2[message, error] {
	return func(yield func(message, error) bool) {
		resp, err := c.request(ctx, "GET", path, nil)
		if err != nil {
			yield(message{}, err)
			return
		}
		defer resp.Body.Close()
		var m message
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(make([]byte, 0, 64<<10), lineMost)
		for lines.Scan() {
			name, value, _ := bytes.Cut(lines.Bytes(), []byte(": "))
			switch {
			case string(name) == "event":
				m.event = string(value)
			case string(name) == "data":
				m.data = append(m.data, value...)
			case len(lines.Bytes()) > 0 || m.event == "":
			case m.event == eventEnd:
				return
			case m.event == eventError:
				yield(message{}, failed(m.data))
				return
			default:
				if !yield(m, nil) {
					return
				}
				m = message{}
			}
		}
		err = lines.Err()
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		yield(message{}, down(ctx, err))
	}
}

func failed(data []byte) error {
	var p Problem
	if err := json.Unmarshal(data, &p); err != nil {
		return fmt.Errorf("api: %w", err)
	}
	return p.Problem()
}

// typed decodes the events of one name.
func typed[T any](list iter.Seq2[message, error], event string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for m, err := range list {
			var v T
			if err == nil && m.event != event {
				continue
			}
			if err == nil {
				err = json.Unmarshal(m.data, &v)
			}
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// Events are the notices after a number, and with follow those to come.
func (c *Client) Events(ctx context.Context, after uint64, follow bool) iter.Seq2[step.Notice, error] {
	path := at("events") + query("after", strconv.FormatUint(after, 10), "follow", flag(follow))
	return typed[step.Notice](c.follow(ctx, path), eventNotice)
}

// WatchStatus is the node's status, now and whenever peers or standing change.
func (c *Client) WatchStatus(ctx context.Context) iter.Seq2[Status, error] {
	return typed[Status](c.follow(ctx, at("node", "watch")), eventStatus)
}

// Watch is a pod, now and whenever anything of it changes.
func (c *Client) Watch(ctx context.Context, ref string) iter.Seq2[consumer.View, error] {
	return typed[consumer.View](c.follow(ctx, at("leases", ref, "watch")), eventLease)
}

// WatchOffers is what fits a query, and then each change of it.
func (c *Client) WatchOffers(ctx context.Context, q OfferQuery) iter.Seq2[OfferChange, error] {
	return typed[OfferChange](c.follow(ctx, at("offers", "watch")+q.encode()), eventOffer)
}

// WatchBook is the book, now and whenever it changes.
func (c *Client) WatchBook(ctx context.Context, q BookQuery) iter.Seq2[Book, error] {
	return typed[Book](c.follow(ctx, at("book", "watch")+q.encode()), eventBook)
}

// Ledger is what the node knows of money: the newest entries, and with follow those to come.
func (c *Client) Ledger(ctx context.Context, lease string, limit int, follow bool) iter.Seq2[Entry, error] {
	path := at("ledger") + query("lease", lease, "limit", strconv.Itoa(limit), "follow", flag(follow))
	return typed[Entry](c.follow(ctx, path), eventEntry)
}

// Logs copies a pod's output; tail: the last lines only, 0: all.
func (c *Client) Logs(ctx context.Context, ref string, follow bool, tail int, stdout, stderr io.Writer) error {
	path := at("leases", ref, "logs") + query("follow", flag(follow), "tail", strconv.Itoa(tail))
	for m, err := range c.follow(ctx, path) {
		if err != nil {
			return err
		}
		var chunk Chunk
		if err := json.Unmarshal(m.data, &chunk); err != nil {
			return fmt.Errorf("api: %w", err)
		}
		to := stdout
		if m.event == eventStderr {
			to = stderr
		}
		if _, err := to.Write(chunk.Data); err != nil {
			return err
		}
	}
	return nil
}
