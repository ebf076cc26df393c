package com.example.app;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;

/** Says good day. The text is a resource, so that the jar is seen to hold more than classes. */
public final class Greeting {
    private Greeting() {}

    public static void main(String[] arguments) throws IOException {
        System.out.println(text().strip());
    }

    static String text() throws IOException {
        try (InputStream greeting = Greeting.class.getResourceAsStream("/greeting.txt")) {
            return new String(greeting.readAllBytes(), StandardCharsets.UTF_8);
        }
    }
}
