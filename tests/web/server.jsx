import { renderToString } from "react-dom/server";
import { app } from "./app.jsx";

console.log(renderToString(app({ url: "https://push.example.com", getToken: () => "" })));
