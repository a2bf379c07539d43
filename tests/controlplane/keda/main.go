// Calls each method of an external scaler once with KEDA's own generated client, and prints what
// came back as one JSON object: by method the answer, or the code and words of its error.
//
//	keda ADDRESS NAMESPACE NAME [KEY=VALUE ...]
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	pb "github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// A stream that has nothing to say yet is silent; this is how long it is listened to.
const silence = 3 * time.Second

func told(answer any, err error) any {
	if err != nil {
		failed := status.Convert(err)
		return map[string]string{"code": failed.Code().String(), "message": failed.Message()}
	}
	return answer
}

func first[T any](stream grpc.ServerStreamingClient[T], err error) any {
	if err != nil {
		return told(nil, err)
	}
	answer, err := stream.Recv()
	return told(answer, err)
}

func run(arguments []string) error {
	if len(arguments) < 3 {
		return fmt.Errorf("usage: keda ADDRESS NAMESPACE NAME [KEY=VALUE ...]")
	}
	metadata := map[string]string{}
	for _, pair := range arguments[3:] {
		key, value, _ := strings.Cut(pair, "=")
		metadata[key] = value
	}
	scaled := &pb.ScaledObjectRef{
		Namespace: arguments[1], Name: arguments[2], ScalerMetadata: metadata,
	}
	credentials := grpc.WithTransportCredentials(insecure.NewCredentials())
	connection, err := grpc.NewClient(arguments[0], credentials)
	if err != nil {
		return err
	}
	defer connection.Close()
	client := pb.NewExternalScalerClient(connection)
	patience, cancel := context.WithTimeout(context.Background(), silence)
	defer cancel()

	answers := map[string]any{}
	spec, err := client.GetMetricSpec(patience, scaled)
	answers["GetMetricSpec"] = told(spec, err)
	metric := "none"
	if err == nil {
		metric = spec.MetricSpecs[0].MetricName
	}
	values, err := client.GetMetrics(
		patience, &pb.GetMetricsRequest{ScaledObjectRef: scaled, MetricName: metric},
	)
	answers["GetMetrics"] = told(values, err)
	active, err := client.IsActive(patience, scaled)
	answers["IsActive"] = told(active, err)
	answers["StreamMetricSpec"] = first(client.StreamMetricSpec(patience, scaled))
	answers["StreamIsActive"] = first(client.StreamIsActive(patience, scaled))
	return json.NewEncoder(os.Stdout).Encode(answers)
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
