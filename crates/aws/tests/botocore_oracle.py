"""What botocore does, for crates/aws/tests/botocore.rs to compare with.

    sign <count> <seed>   requests that botocore signed, one JSON object a line
    ask                   inputs of CreateService on standard input, one JSON object a line; the requests
                          that botocore makes of each, in every protocol, on standard output
    parse                 responses on standard input, one JSON object a line; what botocore makes of
                          each on standard output

App Runner's service model is taken to be of whichever protocol is asked for.

Exits with 3 when there is no botocore.
"""

import base64
import json
import random
import sys
import urllib.parse

try:
    import botocore.auth
    import botocore.awsrequest
    import botocore.credentials
    import botocore.loaders
    import botocore.model
    import botocore.parsers
    import botocore.serialize
except ImportError:
    sys.exit(3)

ACCESS_KEY_ID, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def sign(count, seed):
    draw = random.Random(seed)
    for _ in range(count):
        token = draw.choice([None, None, "token/with+signs=="])
        credentials = botocore.credentials.Credentials(ACCESS_KEY_ID, SECRET, token)
        path = "/".join(draw.choices(["", "a", ".", "..", "%20", "%E1%88%B4", "a~b", "x:y@z"], k=draw.randint(0, 5)))
        pairs = [f"{word(draw)}={word(draw)}" if draw.random() < 0.7 else word(draw) for _ in range(draw.randint(0, 4))]
        url = f"http://localhost:{draw.randint(1, 65535)}/{path}" + ("?" + "&".join(pairs) if pairs else "")
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AppRunner.ListServices"}
        for index in range(draw.randint(0, 3)):
            headers[f"X-Other-{index}"] = "".join(draw.choices(" \tab,\";=", k=draw.randint(0, 9)))
        body = bytes(draw.randrange(256) for _ in range(draw.randint(0, 40)))
        request = botocore.awsrequest.AWSRequest(draw.choice(["GET", "POST"]), url, headers, body)
        region = draw.choice(["us-east-1", "eu-central-1", "local"])
        botocore.auth.SigV4Auth(credentials, "apprunner", region).add_auth(request)
        address = urllib.parse.urlsplit(url)
        print(json.dumps({
            "method": request.method,
            "target": url.split(address.netloc, 1)[1],
            "headers": [["Host", address.netloc], *([name, value] for name, value in request.headers.items())],
            "body": base64.b64encode(body).decode(),
            "region": region,
            "token": token,
        }))


def word(draw):
    return urllib.parse.quote("".join(draw.choices("abAB019-_.~ +/%ሴ&=", k=draw.randint(0, 4))), safe="-_.~")


def model(protocol):
    data = botocore.loaders.Loader().load_service_model("apprunner", "service-2")
    data["metadata"]["protocol"] = protocol
    for name, operation in data["operations"].items():
        if protocol == "query":
            operation["output"]["resultWrapper"] = f"{name}Result"
    return botocore.model.ServiceModel(data)


def ask():
    for line in sys.stdin:
        for protocol in ["json", "smithy-rpc-v2-cbor", "query"]:
            serializer = botocore.serialize.create_serializer(protocol)
            operation = model(protocol).operation_model("CreateService")
            request = serializer.serialize_to_request(json.loads(line), operation)
            body = request["body"]
            if protocol == "query":
                body = urllib.parse.urlencode(body).encode()
            print(json.dumps({
                "protocol": protocol,
                "path": request["url_path"],
                "headers": list(request["headers"].items()),
                "body": base64.b64encode(body).decode(),
            }))


def parse():
    for line in sys.stdin:
        response = json.loads(line)
        parser = botocore.parsers.create_parser(response["protocol"])
        shape = model(response["protocol"]).operation_model(response["operation"]).output_shape
        given = {
            "status_code": response["status"],
            "headers": botocore.awsrequest.HeadersDict(response["headers"]),
            "body": base64.b64decode(response["body"]),
        }
        print(json.dumps(parser.parse(given, shape), default=lambda value: value.timestamp()))


if __name__ == "__main__":
    if sys.argv[1] == "sign":
        sign(int(sys.argv[2]), int(sys.argv[3]))
    else:
        {"ask": ask, "parse": parse}[sys.argv[1]]()
